"""What runs before Flask: heads and bodies read under limits and a clock, admission, the workers.

Read in this order: `connection.py` (one caller's socket), `shell.py` (one address's connections and
its pool of threads), `worker.py` (one process), and what they stand on: `head.py`, `answers.py`,
`refusals.py`, `wsgi.py`, `pool.py`, `listeners.py`.
"""
