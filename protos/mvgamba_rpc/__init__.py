"""The contract between clients and the service, as generated from the .proto files beside it."""
