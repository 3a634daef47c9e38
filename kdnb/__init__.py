"""kdnb: the evidence of knowledge distillation, re-run.

The house, top to bottom; nobody imports upwards:

    datasets   losses      images, and pure functions on tensors
    models     methods     networks, and how a student is trained: stages built from losses
    training   evaluation  the engine that runs stages, and what is measured on a network
    study                  experiments, records, store, statistics
    exhibits               the papers' tables, figures and claims
    plots      tables      how they look
    cli                    the command line
"""

__version__ = "0.1.0"
