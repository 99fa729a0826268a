"""AP of whole trainings beside YOLOv5's. It takes hours, so `make bench` leaves it out."""
