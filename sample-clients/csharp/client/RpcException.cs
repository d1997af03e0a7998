using System;

namespace CSharpClient
{
    /// <summary>The status codes of gRPC.</summary>
    public enum StatusCode
    {
        OK, Cancelled, Unknown, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists, PermissionDenied,
        ResourceExhausted, FailedPrecondition, Aborted, OutOfRange, Unimplemented, Internal, Unavailable, DataLoss,
        Unauthenticated,
    }

    /// <summary>A call that was refused or did not arrive: gRPC's code and the service's sentence.</summary>
    public sealed class RpcException : Exception
    {
        public StatusCode StatusCode { get; }

        public RpcException(StatusCode code, string detail, Exception cause = null) : base(detail, cause)
        {
            StatusCode = code;
        }
    }
}
