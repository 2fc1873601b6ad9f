// HttpClient as it is, for .NET and Mono: as golden.py, whose arguments it takes (ADDRESS golden FILE | ADDRESS large TIMES).
using System;
using System.Globalization;
using System.IO;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text.RegularExpressions;

public static class Golden
{
    static readonly HttpClient Client = new HttpClient();

    static HttpResponseMessage Post(string url, byte[] body)
    {
        var content = new ByteArrayContent(body);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json") { CharSet = "utf-8" };
        return Client.PostAsync(url, content).Result;
    }

    public static void Main(string[] arguments)
    {
        var url = "http://" + arguments[0];
        if (arguments[1] == "large")
        {
            for (var i = 0; i < int.Parse(arguments[2]); i++)
            {
                Console.WriteLine((int)Post(url + "/predict", new byte[20000000]).StatusCode);
                Console.WriteLine((int)Post(url + "/predict/batch", new byte[40000000]).StatusCode);
            }
            return;
        }
        foreach (var line in File.ReadAllLines(arguments[2]))
        {
            var body = System.Text.Encoding.UTF8.GetBytes(line);
            var answer = Post(url + "/predict", body).Content.ReadAsStringAsync().Result;
            var found = Regex.Match(answer, "\"probability\":([^,}]+)").Groups[1].Value;
            var probability = double.Parse(found, CultureInfo.InvariantCulture);
            Console.WriteLine(BitConverter.DoubleToInt64Bits(probability).ToString("x16"));
        }
    }
}
