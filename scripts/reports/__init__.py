"""What a script makes of a file or a simulation: lines to print, numbers for JSON, a picture."""
