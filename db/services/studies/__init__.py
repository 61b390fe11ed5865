"""Create, schedule and end studies.

Every change of a study and of its trials' statuses is made in `scheduling`, under the lock of the study's row. A job is never locked beside it: the jobs
of trials settle and are cancelled in transactions of their own, and what became of them is counted afterwards.
"""
