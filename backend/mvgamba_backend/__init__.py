"""The service: jobs over gRPC, run by the library in worker processes."""
