"""What the package needs from the machine: devices, memory, clock, user folders, safe writes."""
