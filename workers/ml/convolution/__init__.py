"""Convolutional networks: their layers as a definition, their estimators, which predict with numpy alone, and their training by torch."""
