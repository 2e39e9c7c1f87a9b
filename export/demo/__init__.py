"""Small trained models and inputs that come with the package, for `latentrt demo`."""
