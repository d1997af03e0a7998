using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Threading;
using System.Threading.Tasks;

namespace CSharpClient
{
    /// <summary>A unary gRPC call over HttpClient's HTTP/2: five bytes before the message, the status in the trailers.</summary>
    internal static class UnaryCall
    {
        public const int MaxMessageBytes = 64 << 20; // the service's own limit for one message

        public static async Task<byte[]> InvokeAsync(
            HttpClient http, string path, byte[] message, IDictionary<string, string> metadata, TimeSpan timeout)
        {
            if (message.Length > MaxMessageBytes)
                throw TooLarge("send", message.Length);
            var request = new HttpRequestMessage(HttpMethod.Post, path)
            {
                Version = new Version(2, 0),
                Content = new ByteArrayContent(Framed(message)),
            };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
            request.Headers.TE.Add(new TransferCodingWithQualityHeaderValue("trailers"));
            request.Headers.Add("grpc-timeout", Math.Max(1, (long)Math.Min(timeout.TotalMilliseconds, 99999999)) + "m");
            foreach (var pair in metadata) request.Headers.TryAddWithoutValidation(pair.Key, pair.Value);
            using (var clock = new CancellationTokenSource(timeout))
            {
                try
                {
                    using (var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, clock.Token))
                        return await ReadAsync(response, clock.Token);
                }
                catch (OperationCanceledException cause)
                {
                    throw new RpcException(StatusCode.DeadlineExceeded, $"no answer within {timeout.TotalSeconds} s", cause);
                }
                catch (Exception cause) when (cause is HttpRequestException || cause is IOException)
                {
                    throw new RpcException(StatusCode.Unavailable, Sentence(cause), cause);
                }
            }
        }

        private static async Task<byte[]> ReadAsync(HttpResponseMessage response, CancellationToken clock)
        {
            ThrowIfRefused(response.Headers);
            if (!response.IsSuccessStatusCode)
                throw new RpcException(StatusCode.Unknown, $"HTTP status {(int)response.StatusCode} is no answer of gRPC");
            var body = new MemoryStream();
            using (var stream = await response.Content.ReadAsStreamAsync())
            {
                var part = new byte[81920];
                for (int read; (read = await stream.ReadAsync(part, 0, part.Length, clock)) > 0;)
                {
                    body.Write(part, 0, read);
                    if (body.Length > MaxMessageBytes + 5L) throw TooLarge("receive", body.Length);
                }
            }
            ThrowIfRefused(response.TrailingHeaders);
            return Unframed(body.ToArray());
        }

        private static byte[] Framed(byte[] message)
        {
            var frame = new byte[5 + message.Length];
            for (var i = 0; i < 4; ++i) frame[1 + i] = (byte)(message.Length >> (24 - 8 * i));
            Buffer.BlockCopy(message, 0, frame, 5, message.Length);
            return frame;
        }

        private static byte[] Unframed(byte[] frame)
        {
            if (frame.Length >= 5 && frame[0] == 0)
            {
                var length = frame[1] << 24 | frame[2] << 16 | frame[3] << 8 | frame[4];
                if (length == frame.Length - 5) return frame.Skip(5).ToArray();
            }
            throw new RpcException(StatusCode.Internal, $"expected one uncompressed message, got {frame.Length} bytes");
        }

        private static void ThrowIfRefused(HttpResponseHeaders headers)
        {
            IEnumerable<string> found;
            if (!headers.TryGetValues("grpc-status", out found)) return;
            int number;
            var code = int.TryParse(found.First(), out number) && Enum.IsDefined(typeof(StatusCode), number)
                ? (StatusCode)number : StatusCode.Unknown;
            if (code == StatusCode.OK) return;
            var text = headers.TryGetValues("grpc-message", out found) ? Uri.UnescapeDataString(found.First()) : "";
            throw new RpcException(code, text);
        }

        private static RpcException TooLarge(string verb, long bytes)
        {
            return new RpcException(
                StatusCode.ResourceExhausted, $"to {verb}: a message of {bytes} bytes; the limit is {MaxMessageBytes}");
        }

        private static string Sentence(Exception cause)
        {
            return cause.InnerException == null ? cause.Message : cause.Message + " " + Sentence(cause.InnerException);
        }
    }
}
