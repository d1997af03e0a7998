using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using CSharpClient;

/// <summary>SERVICE is the address of a server with the models "arithmetic" (a + b, a - b) and "means".</summary>
internal static class Program
{
    private static int Main()
    {
        var address = Environment.GetEnvironmentVariable("SERVICE").Split(':');
        using (var arithmetic = new ScoringClient(address[0], int.Parse(address[1]), serviceName: "arithmetic"))
        using (var means = new ScoringClient(address[0], int.Parse(address[1]), serviceName: "means"))
        {
            Floats(arithmetic);
            Refusal(arithmetic);
            Pictures(means);
        }
        Console.WriteLine("3 passed, 0 failed");
        return 0;
    }

    private static void Floats(ScoringClient client)
    {
        var request = new FloatRequest(new Dictionary<string, Tuple<float[], int[]>>
        {
            { "a", Tuple.Create(new float[] { 1, 2, 3, 4 }, new[] { 2, 2 }) },
            { "b", Tuple.Create(new float[] { 10, 20, 30, 40 }, new[] { 2, 2 }) },
        });
        var sum = client.PredictAsync(request, "sum:0").Result["sum:0"].As<float[,]>();
        Check(sum[0, 0] == 11 && sum[0, 1] == 22 && sum[1, 0] == 33 && sum[1, 1] == 44, "the sums");
    }

    private static void Refusal(ScoringClient client)
    {
        try
        {
            client.Score<float[,]>(new FloatRequest(new Dictionary<string, float[]> { { "a", new float[] { 1, 2 } } }));
        }
        catch (RpcException refused)
        {
            Check(refused.StatusCode == StatusCode.InvalidArgument, "InvalidArgument instead of " + refused.StatusCode);
            return;
        }
        Check(false, "a refusal");
    }

    private static void Pictures(ScoringClient client)
    {
        var path = Environment.GetEnvironmentVariable("PICTURE");
        using (Stream one = File.OpenRead(path), two = File.OpenRead(path))
        {
            var means = client.Score<float[,]>(new ImageRequest(one, two));
            Check(means.GetLength(0) == 2 && means.GetLength(1) == 3, "two rows of three means");
            Check(Enumerable.Range(0, 3).All(i => means[0, i] == means[1, i]), "the same means twice");
        }
    }

    private static void Check(bool right, string expected)
    {
        if (!right) throw new Exception("expected " + expected);
    }
}
