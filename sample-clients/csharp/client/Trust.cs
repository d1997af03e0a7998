using System;
using System.IO;
using System.Linq;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.RegularExpressions;

namespace CSharpClient
{
    /// <summary>Accepts servers whose certificate fits their name and leads to one of the certificates of a PEM file.</summary>
    internal sealed class Trust
    {
        private static readonly Regex Pem = new Regex(
            "-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", RegexOptions.Singleline);

        private readonly X509Certificate2[] _roots;

        public Trust(string pemFile)
        {
            _roots = Pem.Matches(File.ReadAllText(pemFile)).Cast<Match>()
                .Select(found => new X509Certificate2(Convert.FromBase64String(found.Groups[1].Value.Trim()))).ToArray();
            if (_roots.Length == 0)
                throw new InvalidDataException($"{pemFile}: expected certificates in PEM form, found none");
        }

        public bool Accepts(object sender, X509Certificate certificate, X509Chain presented, SslPolicyErrors errors)
        {
            if (certificate == null || (errors & ~SslPolicyErrors.RemoteCertificateChainErrors) != 0) return false;
            using (var chain = new X509Chain())
            {
                chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
                chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
                chain.ChainPolicy.ExtraStore.AddRange(_roots);
                if (presented != null)
                    foreach (var element in presented.ChainElements) chain.ChainPolicy.ExtraStore.Add(element.Certificate);
                if (!chain.Build(new X509Certificate2(certificate))) return false;
                var last = chain.ChainElements[chain.ChainElements.Count - 1].Certificate;
                return _roots.Any(root => root.RawData.SequenceEqual(last.RawData));
            }
        }
    }
}
