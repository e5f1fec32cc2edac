"""The domain layer: one package a feature, and the kernel they stand on."""
