"""Time: clocks, schedules, all-reduce plans and their charts; what collectives really take."""
