"""What the product runs on: the cloud as Terraform, the local stack, migrations, benchmarks."""
