"""What the package asks of the machine: devices, memory, clock, user folders, safe writes."""
