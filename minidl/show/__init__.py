"""What a net is made of, what it costs and what it does: counts, tables, pictures, progress."""
from minidl.show.count import Row, count_multiply_adds, count_parameters, short_number, trace
from minidl.show.pictures import confusion_picture, learning_curves, predictions_page
from minidl.show.progress import reporter
from minidl.show.results import Result, results_table
from minidl.show.summary import summary_table

__all__ = ["Result", "Row", "confusion_picture", "count_multiply_adds", "count_parameters", "learning_curves",
           "predictions_page", "reporter", "results_table", "short_number", "summary_table", "trace"]
