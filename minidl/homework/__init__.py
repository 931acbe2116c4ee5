"""Six homeworks: what the student gets, what is checked, and how it is judged. The door is `minidl homework`."""
