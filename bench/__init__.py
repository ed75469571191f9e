"""`make bench`: what pen costs in CPU time beside the programs that do the same, measured in one run.

Wall rates depend on whatever else the machine does, CPU time much less, and the ratio of two CPU times taken
within seconds of each other least of all.  So every round does every work once with every program, in an
order that rotates, and what is reported is the median of the rounds' ratios.  An answer that is not the
right one fails the benchmark: a proxy that loses bytes is fast.

process     a program that runs beside the benchmark: started, its CPU time read, ended
peers       the programs compared, and how each is told to balance over some servers
web         the HTTP servers behind them, and wrk, the client
tls         the certificate, TLS clients
streams     bulk data: both ends of some connections, and whether what arrives is what was sent
works       what is measured: one function a work, CPU seconds and units done
rounds      the order of measurements, the ratios
report      the tables, the machine
__main__    options, the story

Not here: asserts on speed.  The figures are for people, who know their machine.
"""
