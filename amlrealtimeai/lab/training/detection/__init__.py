"""Training of SSD-VGG: what is trained on what (recipe), what an anchor should say (targets), the network, its loss."""
