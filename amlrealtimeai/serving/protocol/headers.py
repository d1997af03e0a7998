"""What travels beside the messages: gRPC's metadata, which are headers over REST."""

KEY_HEADER = "authorization"  # "Bearer <key>"
ROUTE_HEADER = "x-ms-aml-grpc-service-route"
ROUTE_PREFIX = "/api/v1/service/"  # of a route; a service's name follows
REQUEST_ID_HEADER = "x-amlrealtimeai-request-id"
TIMINGS_HEADER = "x-amlrealtimeai-timings"  # name=microseconds, comma-separated
