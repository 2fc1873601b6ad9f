/* java.net.http as Spring and Ktor use it: HTTP/2 is asked for with every request. ADDRESS golden FILE | ADDRESS large TIMES */

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Golden {
    static final Pattern PROBABILITY = Pattern.compile("\"probability\":([^,}]+)");

    static HttpResponse<String> post(HttpClient client, String url, byte[] body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
        return client.send(request, HttpResponse.BodyHandlers.ofString());
    }

    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        String url = "http://" + arguments[0];
        if (arguments[1].equals("large")) {
            for (int i = 0; i < Integer.parseInt(arguments[2]); i++) {
                System.out.println(post(client, url + "/predict", new byte[20_000_000]).statusCode());
                System.out.println(post(client, url + "/predict/batch", new byte[40_000_000]).statusCode());
            }
            return;
        }
        for (String line : Files.readAllLines(Path.of(arguments[2]))) {
            Matcher found = PROBABILITY.matcher(post(client, url + "/predict", line.getBytes("UTF-8")).body());
            found.find();
            System.out.printf("%016x%n", Double.doubleToLongBits(Double.parseDouble(found.group(1))));
        }
    }
}
