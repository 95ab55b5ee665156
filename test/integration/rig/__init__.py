"""What the integration tests are made of: a site in a folder, its servers and its programs."""
