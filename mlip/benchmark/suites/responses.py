"""Elastic tensors and phonons against labels: the suites' version of `mlip benchmark elasticity|phonons`."""

import numpy as np

from mlip.benchmark.response_benchmark import run_response_benchmark
from mlip.benchmark.suites.suite import Report, Request, counted, share
from mlip.response.minima import OK


def on_labels(suite: str, request: Request, remark: str) -> Report:
    """Run the benchmark of a response on files with labels; its mean absolute errors are metrics named `KEY_mae`.

    Args:
        remark: reason of structures that are not stable, whose share is a metric of that name.
    """
    runs = [
        run_response_benchmark(
            suite,
            request.named.source,
            path,
            request.out / path.stem,
            allow_functional_mismatch=request.allow_functional_mismatch,
            progress=request.progress,
        )
        for path in request.data
    ]
    records = [record for done in runs for record in done.records]
    metrics = {remark: share(sum(record["reason"] == remark for record in records), len(records))}
    for key in runs[0].suite.quantities:
        pairs = [(r["predicted"][key], r["labels"][key]) for r in records if r["reason"] == OK]
        known = [abs(predicted - label) for predicted, label in pairs if None not in (predicted, label)]
        metrics[f"{key}_mae"] = float(np.mean(known)) if known else float("nan")
    return Report(
        metrics=metrics,
        reasons=counted(record["reason"] for record in records),
        protocol={"materials": [done.chosen for done in runs]},
        tables=tuple(done.table() for done in runs),
    )
