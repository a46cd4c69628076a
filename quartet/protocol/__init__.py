"""The messages of the Open Inference Protocol over gRPC, which need the extra `grpc`."""
