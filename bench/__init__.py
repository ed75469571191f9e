"""`make bench`: what pen costs beside the programs that do the same, measured in one run.

Wall rates depend on whatever else the machine does, CPU time much less, and the ratio of two CPU times taken
within seconds of each other least of all.  So every work is done in rounds, once with every program, in an
order that rotates, and what is reported is the median of the rounds' ratios.  An answer that is not the
right one fails the benchmark: a proxy that loses bytes is fast.

sample       the words: a work, who does it, what a measurement is
results      the samples, the ratios, the file that keeps them
targets      what is to be reached
report       tables in Markdown; the machine
chart        the same as a picture
rounds       the order of measurements

process      a program that runs beside the benchmark: started, its CPU time and memory read, ended
ran          a program that ends by itself
interpreter  under which pen is measured
peers        the two pens, and what any program is told that balances; proxies: haproxy and nginx
lab          directories, what is installed, how much is done
web, nsd, streams, queries, tls, slowdns
             servers behind the programs, and clients in front of them, who check what comes back

balancing    the works of a balancer; idle, crowd: memory, and clients never seen before
merging, loghost, resolving, starting
             those of mergelogs, penlogd, webresolve, and of all of them before they do anything
programs     their versions
__main__     options, the story

Not here: asserts on speed.  The figures are for people, who know their machine.
"""
