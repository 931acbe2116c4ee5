"""What a net is made of, what it costs and what it does: counts, tables, drawings, pictures, progress."""
from minidl.show.count import Row, count_multiply_adds, count_parameters, short_bytes, short_number, trace
from minidl.show.graph import to_dot
from minidl.show.pictures import confusion_picture, learning_curves, predictions_page
from minidl.show.progress import reporter
from minidl.show.receptive import Field
from minidl.show.results import Result, results_table
from minidl.show.summary import summary_table
from minidl.show.svg import to_svg

__all__ = ["Field", "Result", "Row", "confusion_picture", "count_multiply_adds", "count_parameters", "learning_curves",
           "predictions_page", "reporter", "results_table", "short_bytes", "short_number", "summary_table", "to_dot", "to_svg",
           "trace"]
