<?php
// PHP's own HTTP streams: as golden.py, whose arguments it takes. Values go through PHP's own numbers.
ini_set('serialize_precision', '-1');
ini_set('memory_limit', '512M');
[, $address, $what, $argument] = $argv;

function post(string $address, string $path, string $body): array
{
    $options = ['method' => 'POST', 'header' => 'Content-Type: application/json', 'content' => $body,
                'ignore_errors' => true];
    $content = file_get_contents("http://$address$path", false, stream_context_create(['http' => $options]));
    return [explode(' ', $http_response_header[0])[1], $content];
}

if ($what === 'golden') {
    foreach (file($argument, FILE_IGNORE_NEW_LINES) as $row) {
        [, $content] = post($address, '/predict', json_encode(json_decode($row), JSON_PRESERVE_ZERO_FRACTION));
        echo bin2hex(pack('E', json_decode($content)->probability)), "\n";
    }
} else {
    for ($turn = 0; $turn < $argument; $turn++) {
        echo post($address, '/predict', str_repeat(' ', 20_000_000))[0], "\n";
        echo post($address, '/predict/batch', str_repeat(' ', 40_000_000))[0], "\n";
    }
}
