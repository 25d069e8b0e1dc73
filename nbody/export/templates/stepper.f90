! @TITLE@
!
! Made by `orrery export`. Compile @NAME@_stepper.c with a C compiler, and link both:
! gfortran @NAME@_stepper.f90 your_program.f90 @NAME@_stepper.o -lm
! What the arguments are: see @NAME@_stepper.h. Arrays of vectors are (3, n).
module @NAME@_stepper
  use, intrinsic :: iso_c_binding, only: c_bool, c_double, c_loc, c_null_ptr, c_ptr, c_size_t
  implicit none
  private
  public :: @NAME@_dt, @NAME@_symmetric, @NAME@_state

  type, bind(c) :: @NAME@_state
    integer(c_size_t) :: n
    type(c_ptr) :: mass, position, velocity
    type(c_ptr) :: acceleration, jerk, snap, crackle, fourth
    real(c_double) :: softening, G, energy
  end type

  interface
    function c_step(state, threshold, outside) bind(c, name="@NAME@_step") result(dt)
      import :: c_bool, c_double, @NAME@_state
      type(@NAME@_state), intent(in) :: state
      real(c_double), value :: threshold
      logical(c_bool), intent(out) :: outside
      real(c_double) :: dt
    end function

    function c_even_step(state, threshold, outside) bind(c, name="@NAME@_even_step") result(dt)
      import :: c_bool, c_double, @NAME@_state
      type(@NAME@_state), intent(in) :: state
      real(c_double), value :: threshold
      logical(c_bool), intent(out) :: outside
      real(c_double) :: dt
    end function

    ! The reversible rule: 1/dt + 1/last = 2/wanted; last: the dt before, or 0 at the first step.
    function @NAME@_symmetric(wanted, last) bind(c, name="@NAME@_symmetric") result(dt)
      import :: c_double
      real(c_double), value :: wanted, last
      real(c_double) :: dt
    end function
  end interface

contains

  ! The step of a state; NaN for one that is not finite. A stepper for leapfrogs does not look at the
  ! derivatives, which may be left out. even: the step that is the same with time running backward.
  function @NAME@_dt(mass, position, velocity, energy, threshold, acceleration, jerk, snap, crackle, &
                    fourth, softening, G, even, outside) result(dt)
    real(c_double), intent(in), target, contiguous :: mass(:), position(:, :), velocity(:, :)
    real(c_double), intent(in) :: energy, threshold
    real(c_double), intent(in), target, contiguous, optional :: acceleration(:, :), jerk(:, :), &
      snap(:, :), crackle(:, :), fourth(:, :)
    real(c_double), intent(in), optional :: softening, G
    logical, intent(in), optional :: even
    logical, intent(out), optional :: outside
    real(c_double) :: dt
    type(@NAME@_state) :: state
    logical(c_bool) :: strange
    logical :: symmetric

    state%n = size(mass, kind=c_size_t)
    state%mass = c_loc(mass)
    state%position = c_loc(position)
    state%velocity = c_loc(velocity)
    state%acceleration = c_null_ptr
    state%jerk = c_null_ptr
    state%snap = c_null_ptr
    state%crackle = c_null_ptr
    state%fourth = c_null_ptr
    if (present(acceleration)) state%acceleration = c_loc(acceleration)
    if (present(jerk)) state%jerk = c_loc(jerk)
    if (present(snap)) state%snap = c_loc(snap)
    if (present(crackle)) state%crackle = c_loc(crackle)
    if (present(fourth)) state%fourth = c_loc(fourth)
    state%softening = 0
    if (present(softening)) state%softening = softening
    state%G = 1
    if (present(G)) state%G = G
    state%energy = energy
    symmetric = .false.
    if (present(even)) symmetric = even
    if (symmetric) then
      dt = c_even_step(state, threshold, strange)
    else
      dt = c_step(state, threshold, strange)
    end if
    if (present(outside)) outside = strange
  end function

end module
