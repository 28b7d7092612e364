"""What the engines share: filters, image pyramids, and how their kernels are compiled and run."""
