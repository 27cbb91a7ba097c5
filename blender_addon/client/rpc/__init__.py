"""The generated messages of the contract, copied from `protos/` by its generator. Only `client` and `convert` see them."""
