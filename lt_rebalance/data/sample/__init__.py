"""The embedded sample of Fashion-MNIST, and how it was made."""
