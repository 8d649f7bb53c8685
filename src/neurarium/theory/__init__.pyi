from .teacher_student import LearningCurve as LearningCurve
from .teacher_student import TeacherStudent as TeacherStudent
from .teacher_student import order_parameter_dynamics as order_parameter_dynamics
from .teacher_student import simulate as simulate
from .two_oracles import Oracle as Oracle
from .two_oracles import expected_distance as expected_distance
