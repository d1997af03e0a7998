using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using CSharpClient;

/// <summary>Sends a picture to a service and prints the most likely classes.</summary>
internal static class Program
{
    private const string Usage = @"Usage: score [options] HOST:PORT PICTURE
  --tls               use TLS
  --root FILE         PEM file of the certificates to trust
  --key KEY           the service's key (default: $AMLREALTIMEAI_KEY)
  --service NAME      which service of the address
  --timeout SECONDS   for the whole call, retries included (default 10)
  --top K             how many classes (default 5)
  --json              print every output as JSON";

    private static readonly string[] Flags = { "--tls", "--json" };
    private static readonly string[] Valued = { "--root", "--key", "--service", "--timeout", "--top" };

    private static int Main(string[] arguments)
    {
        if (arguments.Contains("--help") || arguments.Contains("-h"))
        {
            Console.WriteLine(Usage);
            return 0;
        }
        var options = new Dictionary<string, string>();
        var words = new List<string>();
        for (var i = 0; i < arguments.Length; ++i)
        {
            if (Flags.Contains(arguments[i])) options[arguments[i]] = "";
            else if (Valued.Contains(arguments[i]) && i + 1 < arguments.Length) options[arguments[i]] = arguments[++i];
            else words.Add(arguments[i]);
        }
        double timeout;
        int top, port = 0;
        var colon = words.Count == 2 ? words[0].LastIndexOf(':') : -1;
        if (colon < 1 || !int.TryParse(words[0].Substring(colon + 1), out port)
            || !double.TryParse(Option(options, "--timeout", "10"), NumberStyles.Float, CultureInfo.InvariantCulture, out timeout)
            || !int.TryParse(Option(options, "--top", "5"), out top) || timeout <= 0 || top < 1)
        {
            Console.Error.WriteLine("score: expected HOST:PORT and PICTURE, got " + string.Join(" ", arguments) + "\n" + Usage);
            return 2;
        }
        var key = Option(options, "--key", Environment.GetEnvironmentVariable("AMLREALTIMEAI_KEY"));
        try
        {
            using (var picture = File.OpenRead(words[1]))
            using (var client = new ScoringClient(
                words[0].Substring(0, colon), port, options.ContainsKey("--tls"), key == null ? null : "Bearer " + key,
                Option(options, "--root", null), Option(options, "--service", null)))
            {
                client.Timeout = TimeSpan.FromSeconds(timeout);
                var outputs = client.PredictAsync(new ImageRequest(picture)).GetAwaiter().GetResult();
                Console.WriteLine(options.ContainsKey("--json") ? Json(outputs) : Best(outputs, top));
            }
            return 0;
        }
        catch (RpcException refused)
        {
            Console.Error.WriteLine($"score: {refused.StatusCode}: {refused.Message}");
        }
        catch (Exception problem) when (problem is IOException || problem is UnauthorizedAccessException)
        {
            Console.Error.WriteLine("score: " + problem.Message);
        }
        return 1;
    }

    private static string Option(IDictionary<string, string> options, string name, string otherwise)
    {
        string value;
        return options.TryGetValue(name, out value) ? value : otherwise;
    }

    private static string Best(IDictionary<string, Tensor> outputs, int top)
    {
        return string.Join("\n", outputs.Select(output =>
        {
            var best = output.Value.Values.Select((value, number) => new { value, number }).OrderByDescending(x => x.value).Take(top);
            var lines = best.Select(x => string.Format(CultureInfo.InvariantCulture, "  {0,8:F4}  class {1}", x.value, x.number));
            return $"{output.Key} [{string.Join(", ", output.Value.Shape)}]\n{string.Join("\n", lines)}";
        }));
    }

    private static string Json(IDictionary<string, Tensor> outputs)
    {
        return "{" + string.Join(", ", outputs.Select(output =>
        {
            var values = output.Value.Values.Select(value => value.ToString("R", CultureInfo.InvariantCulture));
            return $"\"{output.Key}\": {{\"shape\": [{string.Join(", ", output.Value.Shape)}], \"values\": [{string.Join(", ", values)}]}}";
        })) + "}";
    }
}
