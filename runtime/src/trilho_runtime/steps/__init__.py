"""What a step is made of: its artifacts, the function it calls, the code it reaches and the time it may take."""
