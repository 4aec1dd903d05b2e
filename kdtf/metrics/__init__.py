"""Measures of a classifier, from logits and labels: NumPy in, plain numbers out.

    classification        evaluate (all of them), top_k_accuracy, label_ranks, macro_f1_score,
                          per_class_recall, worst_decile_recall, negative_log_likelihood,
                          brier_score_loss, teacher_agreement, correct_by_group
    class_groups          head_classes, mid_classes, tail_classes
    calibration           expected_calibration_error, classwise_calibration_error,
                          reliability_curve, fit_temperature, temperature_scaling
    selective_prediction  risk_coverage_curve, area_under_risk_coverage, confidence_threshold,
                          answered
    slices                slice_accuracy, slice_differences
    comparison            verdict, paired_difference, paired_bootstrap, seed_difference,
                          needed_seeds, needed_test_examples
    error_analysis        what is mistaken for what
    displays              draw_confusion, draw_reliability
    intervals, bootstrap  mean_interval, proportion_interval, bootstrap_interval,
                          BootstrapStatistics

Nothing here imports TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classification": [
            "brier_score_loss",
            "correct_by_group",
            "evaluate",
            "label_ranks",
            "macro_f1_score",
            "negative_log_likelihood",
            "per_class_recall",
            "teacher_agreement",
            "top_k_accuracy",
            "worst_decile_recall",
        ],
        "class_groups": ["head_classes", "mid_classes", "tail_classes"],
        "calibration": [
            "classwise_calibration_error",
            "expected_calibration_error",
            "fit_temperature",
            "reliability_curve",
            "temperature_scaling",
        ],
        "selective_prediction": [
            "answered",
            "area_under_risk_coverage",
            "confidence_threshold",
            "risk_coverage_curve",
        ],
        "slices": ["slice_accuracy", "slice_differences"],
        "comparison": [
            "needed_seeds",
            "needed_test_examples",
            "paired_bootstrap",
            "paired_difference",
            "seed_difference",
            "verdict",
        ],
        "displays": ["draw_confusion", "draw_reliability"],
        "intervals": ["mean_interval", "proportion_interval"],
        "bootstrap": ["BootstrapStatistics", "bootstrap_interval"],
    },
)
