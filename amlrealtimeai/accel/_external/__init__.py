"""Where old notebooks look for the SSD-VGG post-processing."""
