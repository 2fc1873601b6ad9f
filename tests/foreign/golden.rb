# Net::HTTP, of Ruby itself: as golden.py, whose arguments it takes. Values go through Ruby's own numbers.
require "json"
require "net/http"

address, what, argument = ARGV
host, port = address.split(":")

post = lambda do |http, path, body|
  http.post(path, body, "Content-Type" => "application/json")
end

if what == "golden"
  Net::HTTP.start(host, port) do |http|
    File.foreach(argument, chomp: true) do |row|
      answer = JSON.parse(post.(http, "/predict", JSON.generate(JSON.parse(row))).body)
      puts [answer["probability"]].pack("G").unpack1("H*")
    end
  end
else
  argument.to_i.times do
    [["/predict", 20_000_000], ["/predict/batch", 40_000_000]].each do |path, size|
      Net::HTTP.start(host, port) { |http| puts post.(http, path, " " * size).code }
    end
  end
end
