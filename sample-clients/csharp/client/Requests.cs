using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace CSharpClient
{
    /// <summary>What a ScoringClient sends: tensors by input name.</summary>
    public interface IScoringRequest
    {
        IDictionary<string, Tensor> Inputs { get; }
    }

    /// <summary>Encoded pictures (JPEG or PNG files as they are) as the batch "images".</summary>
    public sealed class ImageRequest : IScoringRequest
    {
        public IDictionary<string, Tensor> Inputs { get; }

        public ImageRequest(params Stream[] images)
        {
            var batch = new Tensor(images.Select(Read).ToArray());
            Inputs = new Dictionary<string, Tensor> { { "images", batch } };
        }

        private static byte[] Read(Stream stream)
        {
            var copy = new MemoryStream();
            stream.CopyTo(copy);
            return copy.ToArray();
        }
    }

    /// <summary>Float arrays by input name, each with its shape.</summary>
    public sealed class FloatRequest : IScoringRequest
    {
        public IDictionary<string, Tensor> Inputs { get; }

        public FloatRequest(IDictionary<string, float[]> floats)
            : this(floats.ToDictionary(pair => pair.Key, pair => Tuple.Create(pair.Value, new[] { pair.Value.Length })))
        {
        }

        public FloatRequest(IDictionary<string, Tuple<float[], int[]>> inputs)
        {
            Inputs = inputs.ToDictionary(
                pair => pair.Key,
                pair => new Tensor(pair.Value.Item1, pair.Value.Item2.Select(size => (long)size).ToArray()));
        }
    }
}
