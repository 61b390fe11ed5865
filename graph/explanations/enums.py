"""The enums of explanations, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.tables.explanations import ExplanationMethod
from graph.core.enums import describe

__all__ = ["ExplanationMethod"]

describe(
    ExplanationMethod,
    "How predictions are explained.",
    TREE_SHAP="Shapley values of models of trees, as the trees' own numbers of rows weight them: LightGBM, XGBoost, forests and gradient boosting of scikit-learn."
    " Contributions of the columns to the log-odds, the raw score or the predicted number of each row, which sum up to it.",
    LINEAR="Shapley values of linear models, exact if columns are independent: coefficient × (value − mean of the held-out rows). Contributions as of TREE_SHAP.",
    PERMUTATION="How much worse the model predicts the target when the values of a column are exchanged among the rows: by `accuracy` for classes, by `rmse`"
    " for numbers. Works with any model that has a target.",
    PARTIAL_DEPENDENCE="What the model predicts on average over the rows when a column has one value in all of them, for values over its range, and the same of"
    " single rows (ICE).",
    OCCLUSION="How the prediction of one item changes when a part of it is hidden by its mean: a patch of an image, a window of a recording or a signal.",
    INTEGRATED_GRADIENTS="Contributions to the predictions of neural networks: the distance of each value from its mean over the held-out rows, times the mean"
    " gradient on the straight way from there. They sum up as those of TREE_SHAP do.",
)
