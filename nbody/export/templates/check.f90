! Does the stepper say in Fortran what it said where it was trained? Made by `orrery export`.
module @NAME@_expected
  use, intrinsic :: iso_c_binding, only: c_bool, c_double
  use @NAME@_stepper, only: @NAME@_state
  implicit none

  type, bind(c) :: vector
    type(@NAME@_state) :: state
    real(c_double) :: threshold, dt
    logical(c_bool) :: outside
  end type

  type(vector), bind(c, name="@NAME@_vectors") :: vectors(@COUNT@)
end module

program @NAME@_check
  use, intrinsic :: iso_c_binding, only: c_double, c_f_pointer, c_ptr
  use @NAME@_stepper, only: @NAME@_dt
  use @NAME@_expected, only: vectors
  implicit none

  real(c_double), pointer, contiguous :: mass(:)
  real(c_double) :: dt, worst
  integer :: k

  worst = 0
  do k = 1, @COUNT@
    associate (s => vectors(k)%state)
      call c_f_pointer(s%mass, mass, [s%n])
      dt = @NAME@_dt(mass, rows(s%position), rows(s%velocity), s%energy, vectors(k)%threshold, &
                    acceleration=rows(s%acceleration), jerk=rows(s%jerk), snap=rows(s%snap), &
                    crackle=rows(s%crackle), fourth=rows(s%fourth), softening=s%softening, G=s%G)
    end associate
    worst = max(worst, abs(dt/vectors(k)%dt - 1))
  end do
  print "(a, es8.1)", "largest relative difference", worst
  if (.not. worst <= 1e-12_c_double) error stop "WRONG"

contains

  function rows(pointer) result(values)
    type(c_ptr), intent(in) :: pointer
    real(c_double), pointer, contiguous :: values(:, :)
    call c_f_pointer(pointer, values, [3, size(mass)])
  end function

end program
