"""Maps that are bent to the image and bent back."""
