"""The models shipped with the package, one safetensors file each."""
