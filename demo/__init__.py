"""`make demo`: a balanced cluster on the loopback addresses of one machine, and the story it tells.

webserver   a small web server, as a program of its own, with Apache's log and Apache's piped logs
cluster     the processes: three of those, each with its penlog, a penlogd, a pen; none outlives the demo
screen      how what is told looks in 80 columns
__main__    the story: visitors, failover, the log; and whether what it claims is true
"""
