"""Explanations of what models predict: by Shapley values, permutations, partial dependence and occlusion."""
