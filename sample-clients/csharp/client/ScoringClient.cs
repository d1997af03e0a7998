using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Net.Http;
using System.Threading.Tasks;

namespace CSharpClient
{
    /// <summary>
    /// Asks a deployed model: the service of amlrealtimeai, or any TensorFlow Serving. One client may be used by several
    /// threads; it keeps one HTTP/2 connection.
    /// </summary>
    public sealed class ScoringClient : IDisposable
    {
        private const string Predict = "/tensorflow.serving.PredictionService/Predict";
        private const int Attempts = 5;

        private readonly HttpClient _http;
        private readonly Dictionary<string, string> _metadata = new Dictionary<string, string>();

        /// <param name="authKey">The service's key, sent with every call.</param>
        /// <param name="rootCertificates">PEM file of the certificates to trust; null: those of the system.</param>
        /// <param name="serviceName">Which service of the address, where it has several.</param>
        public ScoringClient(
            string host, int port, bool useSSL = false, string authKey = null, string rootCertificates = null,
            string serviceName = null)
        {
            // .NET Core 3 speaks HTTP/2 without TLS only when it is told to.
            AppContext.SetSwitch("System.Net.Http.SocketsHttpHandler.Http2UnencryptedSupport", true);
            var handler = new SocketsHttpHandler { UseProxy = false, AllowAutoRedirect = false };
            if (rootCertificates != null)
                handler.SslOptions.RemoteCertificateValidationCallback = new Trust(rootCertificates).Accepts;
            _http = new HttpClient(handler)
            {
                BaseAddress = new UriBuilder(useSSL ? "https" : "http", host, port).Uri,
                Timeout = System.Threading.Timeout.InfiniteTimeSpan,
            };
            if (authKey != null) _metadata["authorization"] = authKey;
            if (serviceName != null) _metadata["x-ms-aml-grpc-service-route"] = "/api/v1/service/" + serviceName;
        }

        /// <summary>For the whole call, retries included.</summary>
        public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(10);

        public void Dispose() { _http.Dispose(); }

        /// <summary>The only output (or "output_alias") as float[,] and so on.</summary>
        /// <exception cref="RpcException">The service refused, or could not be reached in time.</exception>
        public async Task<T> ScoreAsync<T>(IScoringRequest request) where T : class
        {
            var outputs = await PredictAsync(request);
            Tensor answer;
            if (outputs.TryGetValue("output_alias", out answer)) return answer.As<T>();
            if (outputs.Count == 1) return outputs.Values.First().As<T>();
            throw new InvalidOperationException(
                $"the service answers with {string.Join(", ", outputs.Keys)}; choose of PredictAsync's result");
        }

        public Task<float[]> ScoreAsync(IScoringRequest request) { return ScoreAsync<float[]>(request); }

        public T Score<T>(IScoringRequest request) where T : class
        {
            return ScoreAsync<T>(request).GetAwaiter().GetResult();
        }

        /// <summary>All outputs by name, or those that are named.</summary>
        public async Task<IDictionary<string, Tensor>> PredictAsync(IScoringRequest request, params string[] outputs)
        {
            var message = MessageOf(request, outputs);
            var clock = Stopwatch.StartNew();
            var pause = TimeSpan.FromMilliseconds(100);
            for (var attempt = 1; ; ++attempt, pause += pause)
            {
                try
                {
                    return AnswerOf(await UnaryCall.InvokeAsync(_http, Predict, message, _metadata, Timeout - clock.Elapsed));
                }
                // Nobody was reached, so nothing was computed: only then is asking again harmless.
                catch (RpcException error) when (
                    error.StatusCode == StatusCode.Unavailable && attempt < Attempts && clock.Elapsed + pause < Timeout)
                {
                }
                await Task.Delay(pause);
            }
        }

        private static byte[] MessageOf(IScoringRequest request, IEnumerable<string> outputs)
        {
            var message = new ProtoWriter();
            foreach (var pair in request.Inputs)
            {
                var entry = new ProtoWriter();
                entry.Text(1, pair.Key);
                entry.Message(2, pair.Value.ToProto());
                message.Message(PredictRequestFields.Inputs, entry);
            }
            foreach (var name in outputs) message.Text(PredictRequestFields.OutputFilter, name);
            return message.ToArray();
        }

        private static IDictionary<string, Tensor> AnswerOf(byte[] response)
        {
            var answer = new Dictionary<string, Tensor>();
            foreach (var field in ProtoReader.Fields(response))
            {
                if (field.Number != PredictResponseFields.Outputs) continue;
                var entry = ProtoReader.Fields(field.Bytes).ToList();
                var name = entry.Where(part => part.Number == 1).Select(part => part.Text).LastOrDefault() ?? "";
                answer[name] = Tensor.FromProto(entry.Where(part => part.Number == 2).Select(part => part.Bytes).Last());
            }
            return answer;
        }
    }
}
