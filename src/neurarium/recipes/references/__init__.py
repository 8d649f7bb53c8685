"""What a person would use without this house: the arms that every comparison has."""
