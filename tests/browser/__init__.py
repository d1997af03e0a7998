"""What is seen in headless Chromium: `make test-browser`."""
