# HTTP::Tiny, of Perl itself: as golden.py, whose arguments it takes.
use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

my ($address, $what, $argument) = @ARGV;
my $client = HTTP::Tiny->new(timeout => 60);

sub post {
    my ($path, $body) = @_;
    my $headers = { "Content-Type" => "application/json" };
    return $client->post("http://$address$path", { headers => $headers, content => $body });
}

if ($what eq "golden") {
    open my $rows, "<:raw", $argument or die $!;
    while (my $row = <$rows>) {
        chomp $row;
        print unpack("H*", pack("d>", decode_json(post("/predict", $row)->{content})->{probability})), "\n";
    }
} else {
    for (1 .. $argument) {
        print post("/predict", " " x 20_000_000)->{status}, "\n";
        print post("/predict/batch", " " x 40_000_000)->{status}, "\n";
    }
}
