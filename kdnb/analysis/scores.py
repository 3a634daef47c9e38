"""What every run that is scored is asked: how often it is right, how sure it is, how far it follows its teacher."""

from __future__ import annotations

from kdnb.analysis.registry import Found, Subject, measure


@measure("accuracy", metrics=("headline", "all_images"))
def accuracy(subject: Subject) -> Found:
    """The share of the images that is right: of those that score, and of all test images."""
    from kdnb.evaluation.correct import correct

    right = correct(subject.student.outputs.logits, subject.labels)
    return {}, {"headline": float(right[subject.score].mean()), "all_images": float(right.mean())}


@measure("training_accuracy", metrics=("train_accuracy",), needs=("training",))
def training_accuracy(subject: Subject) -> Found:
    """The share of the images that the student learned from that is right, none of them augmented."""
    from kdnb.evaluation.correct import correct

    assert subject.training is not None
    seen = subject.student.over(subject.training).outputs.logits
    return {}, {"train_accuracy": float(correct(seen, subject.training.labels.cpu().numpy()).mean())}


@measure("calibration", metrics=("nll", "brier", "ece"))
def calibration(subject: Subject) -> Found:
    """How far the student's probabilities are from what comes, on the images that score."""
    from kdnb.evaluation.calibration import brier, ece, nll

    student, labels = subject.student.log_probabilities[subject.score], subject.labels[subject.score]
    return {}, {"nll": nll(student, labels), "brier": brier(student, labels), "ece": ece(student, labels)}


@measure("fidelity", metrics=("agreement", "teacher_kl"), needs=("teacher",))
def fidelity(subject: Subject) -> Found:
    """How often student and teacher name the same class, and KL(teacher‖student), on the images that score."""
    from kdnb.evaluation.calibration import agreement, teacher_kl

    assert subject.teacher is not None
    student, teacher = (who.log_probabilities[subject.score] for who in (subject.student, subject.teacher))
    return {}, {"agreement": agreement(student, teacher), "teacher_kl": teacher_kl(student, teacher)}
