"""What the package asks of the machine: devices, memory, clock, folders of the user, safe writes."""
