"""What people look for comes first: fifty queries over names, notes, columns and parameters in four languages, as they are typed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from db.core.work import Database
from tests.client import Client
from tests.search.searching import add, add_dataset, add_run, add_study, titles

DATASETS: Sequence[tuple[str, str | None, Sequence[str]]] = (
    ("bearing_vibration_42", "Accelerometer recordings of ball bearings at 12 kHz, run to failure.", ["acc_x", "acc_y", "rpm"]),
    ("bearing_vibration_43", "The same rig, second campaign.", ["acc_x", "acc_y", "rpm"]),
    ("Credit card fraud 2023", "Transactions of European cardholders, anonymised by PCA.", ["V1", "V2", "amount", "is_fraud"]),
    ("House prices", "Sales of houses in Ames, Iowa.", ["LotArea", "YearBuilt", "SalePrice", "GarageCars"]),
    ("customerChurnQ4", "Which customers left in the last quarter.", ["tenure_months", "monthly_charges", "churned"]),
    ("Wetterdaten München", "Stündliche Temperatur und Luftfeuchtigkeit der Messstationen.", ["temperatur", "luftfeuchte", "windgeschwindigkeit"]),
    ("Qualitätsprüfung Schweißnähte", "Röntgenbilder von Schweißnähten mit Fehlern.", ["porosität", "rissbreite"]),
    ("Épreuves de fatigue", "Essais mécaniques sur des éprouvettes en acier.", ["contrainte", "déformation", "nombre_de_cycles"]),
    ("Consommation électrique des bâtiments", "Relevés horaires des compteurs communicants.", ["puissance_active", "tension"]),
    ("Reseñas de clientes", "Opiniones sobre productos, con calificaciones de una a cinco estrellas.", ["reseña", "calificación"]),
    ("Producción de energía eólica", "Turbinas del parque de Zaragoza.", ["velocidad_del_viento", "potencia"]),
    ("MRI brain scans", "T1-weighted images with segmentation masks of tumours.", ["image", "mask"]),
    ("iris", "Measurements of three species of flowers.", ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"]),
    ("irrigation schedule", "When fields were watered.", ["field", "litres"]),
)  # fmt: skip
OTHERS = {
    "pipelines": {
        "Random forest baseline": "Impute, scale, then train a forest.",
        "FFT features → SVM": "Spectral features of windows of one second.",
        "Entrenamiento de regresión": "Predice la potencia.",
    },
    "models": {
        "fraud-detector": "Gradient boosting on transactions; serves production.",
        "churn_model_v2": "LightGBM, calibrated.",
        "Rissklassifikator": "Erkennt Risse in Schweißnähten.",
        "Prévision de charge": "Prédit la consommation du lendemain.",
        "resnet50-tumour": "Fine-tuned on the brain scans.",
    },
    "experiments": {
        "Hyperparameter sweep October": "Learning rates between 1e-4 and 1e-1.",
        "Ablation of augmentations": "Which augmentation helps segmentation?",
        "Vergleich der Verlustfunktionen": "Kreuzentropie gegen Fokusverlust.",
        "Comparaison des optimiseurs": "Adam contre SGD avec moment.",
    },
}
RUNS = (
    ("warm restart", "Diverged after 30 epochs, the learning rate was too high."),
    (None, "Overfitted: the validation loss rises from epoch 12 on."),
    ("Lauf mit Dropout", "Bestes Ergebnis bisher, wird übernommen."),
)
STUDIES = (
    ("Boosting depth and rate", "validation_loss", ("boost.max_depth", "boost.learning_rate")),
    ("Suche Regularisierung", "cv_roc_auc_mean", ("train.reg_lambda", "train.reg_alpha")),
    ("Búsqueda de hiperparámetros", "rmse", ("train.alpha",)),
)
# English, German, French and Spanish; identifiers, beginnings, endings, accents left out, mistakes.
QUERIES = {
    "bearing_vibration_42": "bearing_vibration_42", "vibration 43": "bearing_vibration_43", "accelerometer": "bearing_vibration_42",
    "fraud detector": "fraud-detector", "credit fraud": "Credit card fraud 2023", "card holders transaction": "Credit card fraud 2023",
    "sale price": "House prices", "GarageCars": "House prices", "house": "House prices", "customer churn": "customerChurnQ4",
    "tenure": "customerChurnQ4", "churn mod": "churn_model_v2", "iri": "iris", "petal width": "iris", "brain tumor": "resnet50-tumour",
    "segmentation mask": "MRI brain scans", "learning rate too high": "warm restart", "overfitting": "Run 2", "fft": "FFT features → SVM",
    "random forests": "Random forest baseline", "hyperparam": "Hyperparameter sweep October",
    "wetter": "Wetterdaten München", "munchen": "Wetterdaten München", "Messstation": "Wetterdaten München", "Windgeschwindigkeit": "Wetterdaten München",
    "schweissnaht": "Qualitätsprüfung Schweißnähte", "Riss": "Rissklassifikator", "Verlustfunktion": "Vergleich der Verlustfunktionen",
    "bestes Ergebnis": "Lauf mit Dropout",
    "epreuve": "Épreuves de fatigue", "essai mécanique": "Épreuves de fatigue", "déformations": "Épreuves de fatigue",
    "prevision": "Prévision de charge", "bâtiment électrique": "Consommation électrique des bâtiments", "comparaison optimiseur": "Comparaison des optimiseurs",
    "resenas": "Reseñas de clientes", "opinión producto": "Reseñas de clientes", "energia eolica": "Producción de energía eólica",
    "velocidad viento": "Producción de energía eólica", "entrenamientos": "Entrenamiento de regresión",
    "bering vibration": "bearing_vibration_43", "vibraiton 42": "bearing_vibration_42", "hyperparamter": "Hyperparameter sweep October",
    "max depth": "Boosting depth and rate", "reg_lambda": "Suche Regularisierung", "regularisierungen": "Suche Regularisierung",
    "boosting rates": "Boosting depth and rate", "busqueda hiperparametro": "Búsqueda de hiperparámetros", "roc auc mean": "Suche Regularisierung",
    "ablatoin": "Ablation of augmentations",
}  # fmt: skip
MISSES = 2


async def test_what_is_looked_for_comes_first(ada: Client, database: Database) -> None:
    for name, description, columns in DATASETS:
        await add_dataset(database, "ada", name, description, columns)
    ids = {table: await add(database, table, "ada", things) for table, things in OTHERS.items()}
    for name, notes in RUNS:
        await add_run(database, ids["experiments"][0], name, notes)
    for name, metric, keys in STUDIES:
        await add_study(database, "ada", name, metric, *keys)
    first = await asyncio.gather(*(titles(ada, query, first=1) for query in QUERIES))
    missed = {query: found for (query, expected), found in zip(QUERIES.items(), first, strict=True) if found != [expected]}
    assert len(QUERIES) >= 50
    assert len(missed) <= MISSES, missed
