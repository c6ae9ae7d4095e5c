"""From a rate of events to processes, partitions and disks."""
