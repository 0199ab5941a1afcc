"""Incidents: what alarms mean for the open problems of a model. Pure: from the journal's state to records.

One incident for each model, version, kind of alarm and cause. It is suspected when its alarm opens it, confirmed by
what comes after, and ends by itself when what it was about has gone (resolved) or another version serves (outlived); a
person can acknowledge, assign, mute or close it. Ids are made from the alarms', so that a repeat after a crash is the
same incident.
"""

from trilho.watch.incidents.cause import leading, same_cause
from trilho.watch.incidents.ending import CALM_WINDOWS, ENOUGH_LABELS, LOOK_BACK, close_calm, close_outlived
from trilho.watch.incidents.harm import measured_effect, severity
from trilho.watch.incidents.lead import Crossing, crossing, foresee, lead_words
from trilho.watch.incidents.opening import respond
from trilho.watch.incidents.terms import Terms
from trilho.watch.incidents.trials import Finding, Trials, settle

__all__ = [
    "CALM_WINDOWS",
    "ENOUGH_LABELS",
    "LOOK_BACK",
    "Crossing",
    "Finding",
    "Terms",
    "Trials",
    "close_calm",
    "close_outlived",
    "crossing",
    "foresee",
    "lead_words",
    "leading",
    "measured_effect",
    "respond",
    "same_cause",
    "settle",
    "severity",
]
